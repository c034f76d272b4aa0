"""`ghub models` and `ghub queues`: what the grid serves, and what waits."""

from ghub.admin.listing import Listing, present
from ghub.client.hub import AdminHub
from ghub.client.options import HubUrl, Json, TokenFile, Watch
from ghub.live.picture import age_ms, picture_if_told
from ghub.showing.figures import duration
from ghub.showing.tables import listed


def models(
    *, watch: Watch = None, hub_url: HubUrl = None, admin_token_file: TokenFile = None, as_json: Json = False
) -> None:
    """Show the models of the grid: how many nodes serve each, what waits and what runs."""
    hub = AdminHub.open(hub_url, admin_token_file)

    def look() -> Listing:
        told = hub.get("registry")
        columns = {
            "MODEL": lambda model: model["id"],
            "NODES": lambda model: model["nodes"],
            "IDLE": lambda model: model["idle"],
            "WAITING": lambda model: model["waiting"],
            "RUNNING": lambda model: model["running"],
            "LOADED ON": lambda model: listed(
                node["node"] for node in told["nodes"] if model["id"] in node.get("loaded", ())
            ),
        }
        return Listing({"models": told["models"]}, told["models"], columns)

    present(look, as_json=as_json, every_s=watch)


def queues(
    *, watch: Watch = None, hub_url: HubUrl = None, admin_token_file: TokenFile = None, as_json: Json = False
) -> None:
    """Show every lane of every model, with what waits and what runs."""
    hub = AdminHub.open(hub_url, admin_token_file)

    def look() -> Listing:
        told = hub.get("queues")
        picture = {} if as_json else picture_if_told(hub)
        known = picture.get("queues", {})
        columns = {
            "MODEL": lambda lane: lane["model"],
            "LANE": lambda lane: lane["lane"],
            "WAITING": lambda lane: lane["waiting"],
            "RUNNING": lambda lane: lane["running"],
            "OLDEST WAITS": lambda lane: duration(
                age_ms(picture, known.get(f"{lane['lane']}:{lane['model']}", {}).get("oldest_at"))
            ),
        }
        return Listing(told, told["queues"], columns)

    present(look, as_json=as_json, every_s=watch)
