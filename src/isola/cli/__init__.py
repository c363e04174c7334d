"""The command line: one file per group of verbs under ``commands``, each verb a few lines over ``isola.client``."""
