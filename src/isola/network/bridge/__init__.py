"""What a managed bridge needs: its link, its packet filter rules, DHCP and DNS."""
