"""`/api/nodes…`: the nodes of the grid, and orders to them."""

from typing import Any

from fastapi import APIRouter

from common.orders import Order
from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.door import admin_router
from hub.grid.picture import GridPicture
from hub.office.nodes import NodeDesk


def nodes_router(gatekeeper: Gatekeeper, picture: GridPicture, desk: NodeDesk) -> APIRouter:
    """Routes about nodes."""
    router = admin_router(gatekeeper, "nodes")

    @router.get("/api/nodes")
    async def list_nodes() -> dict[str, Any]:
        """Every live node, as in the registry."""
        return {"nodes": (await picture.take())["nodes"]}

    @router.get("/api/nodes/{node}")
    async def get_node(node: str) -> dict[str, Any]:
        """One live node."""
        return await picture.node(node)

    @router.post("/api/nodes/{node}/drain", status_code=202)
    async def drain(node: str) -> dict[str, Any]:
        """Let it finish what runs and take nothing new."""
        return await desk.order(node, Order.DRAIN)

    @router.post("/api/nodes/{node}/pause", status_code=202)
    async def pause(node: str) -> dict[str, Any]:
        """Let it take nothing new."""
        return await desk.order(node, Order.PAUSE)

    @router.post("/api/nodes/{node}/resume", status_code=202)
    async def resume(node: str) -> dict[str, Any]:
        """Take back what drain and pause ordered; what its owner ordered stays."""
        return await desk.order(node, Order.RESUME)

    @router.get("/api/nodes/{node}/acl")
    async def acl(node: str) -> dict[str, Any]:
        """The line for the broker's operator where hubs don't make the broker's users; holds no password."""
        return await desk.acl(node)

    @router.delete("/api/nodes/{node}")
    async def cut_off(node: str) -> dict[str, Any]:
        """Take its access to the broker away; its jobs run elsewhere."""
        return await desk.cut_off(node)

    return router
