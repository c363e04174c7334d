"""The Python library of the REST door: ``Client``, one file per noun.

    from isola.client import Client

    with Client() as client:
        client.instances.create(image="debian/12", name="web1", start=True).wait()
        print(client.instances.run("web1", ["hostname"]).stdout)

Synchronous and on the standard library alone, because the command line uses it and must start in a few
milliseconds: modules here import slow modules late (see ``docs/decisions``).
"""

from isola.client.client import Client as Client
