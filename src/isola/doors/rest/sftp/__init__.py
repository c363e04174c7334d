"""Files of instances over SFTP, version 3 without SSH, on an HTTP connection that was upgraded."""
