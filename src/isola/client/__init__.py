"""Python library for the REST API: ``Client``, one file per noun.

    from isola.client import Client

    with Client() as client:
        client.instances.create(image="debian/12", name="web1", start=True).wait()
        print(client.instances.run("web1", ["hostname"]).stdout)

It is synchronous and uses the standard library only, because the command line imports it and must start in a few
milliseconds: modules here import slow modules late (see ``docs/decisions``).
"""

from isola.client.client import Client as Client
