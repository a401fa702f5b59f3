"""The client for asyncio. Written by hand; `trimtab.client._sync` is made from it by `python -m tools.unasync`."""
