"""Configuration keys of instances that are about deployments."""

from __future__ import annotations

from isola.instances import run_values
from isola.settings import Setting, Settings, whole

FILES, IMAGES = "isola.deploy.files", "isola.deploy.images"
DEPLOY_SETTINGS = Settings(
    "instance",
    Setting(
        FILES,
        run_values.paths,
        "Files that a new version gets from the one before it when it is deployed, with owner and mode: "
        "`/run/secrets/token`.",
        live=True,
    ),
    Setting(
        IMAGES,
        whole(1, 100),
        "How many images of former versions are kept: those that deployments have built before them, and that have "
        "no other name, are removed when a version is deployed.",
        "5",
        live=True,
    ),
)
