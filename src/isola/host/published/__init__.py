"""The program that forwards all published ports of a daemon. It imports little, since it takes memory all the time."""
