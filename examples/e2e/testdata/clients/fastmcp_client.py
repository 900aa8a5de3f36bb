# A small client on FastMCP, for recording: it opens the browser, lists the
# tools and calls one.
import asyncio
import os

from fastmcp import Client


async def main():
    async with Client(os.environ["MCP_URL"], auth="oauth") as client:
        print(len(await client.list_tools()), "tools")
        print(await client.call_tool("createTodo", {"todoText": "Water the lemon tree"}))


asyncio.run(main())
