"""``isola compose``: from an application's files to instances, networks and volumes of the daemon."""
