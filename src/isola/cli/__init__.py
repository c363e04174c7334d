"""The command line: one file per noun, each verb a few lines over isola.client."""
