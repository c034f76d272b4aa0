"""`ghub requests`: what clients wait for, and the jobs that failed for good."""

from typing import Annotated

import typer

from ghub.admin.listing import Listing, present
from ghub.client.completion import complete_dead, complete_models, complete_requests
from ghub.client.hub import AdminHub, HubUnmoved
from ghub.client.options import HubUrl, Json, TokenFile, Watch, refuse_options_before
from ghub.errors import StartRefused
from ghub.live.picture import age_ms, picture_if_told
from ghub.showing.figures import count, duration, rate
from ghub.showing.tables import confirm, tell, when

Entry = Annotated[
    str | None,
    typer.Argument(help="The dead job's id, as `ghub requests dead` shows it.", autocompletion=complete_dead),
]
All = Annotated[bool, typer.Option("--all", help="All of them.")]
MOST_DEAD = 1000
LESS = ("LANE", "PLACE", "KEY", "ATTEMPT", "NODE", "TOKENS")
"""What of a request a narrow terminal does without: its id must stand there whole, to be copied."""

requests_app = typer.Typer(
    help="Show the open requests of the grid, and those that failed for good.", invoke_without_command=True
)


@requests_app.callback()
def list_requests(
    context: typer.Context,
    *,
    status: Annotated[str | None, typer.Option(help="Only queued, claimed or streaming ones.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Only those for this model.", autocompletion=complete_models)
    ] = None,
    limit: Annotated[int, typer.Option(help="Most to show.", min=1, max=1000)] = 100,
    watch: Watch = None,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Show the open requests of the grid, and those that failed for good."""
    if context.invoked_subcommand is not None:
        refuse_options_before(context.invoked_subcommand, context)
        return

    hub = AdminHub.open(hub_url, admin_token_file)

    def look() -> Listing:
        told = hub.get("requests", status=status, model=model, limit=limit)
        picture = {} if as_json else picture_if_told(hub)
        running, waiting = picture.get("running", {}), picture.get("waiting", {})
        columns = {
            "REQUEST": lambda one: one["id"],
            "STATUS": lambda one: one["status"],
            "MODEL": lambda one: one["model"],
            "LANE": lambda one: one["lane"],
            "PLACE": lambda one: waiting.get(one["id"], {}).get("place"),
            "NODE": lambda one: one["node"],
            "ATTEMPT": lambda one: one["attempt"],
            "AGE": lambda one: duration(age_ms(picture, one["queued_at"])),
            "TOKENS": lambda one: count(running.get(one["id"], {}).get("tokens")),
            "TOKENS/S": lambda one: rate(running.get(one["id"], {}).get("tokens_per_s")),
            "KEY": lambda one: one["key"],
        }
        note = f"and more than these {limit} (--limit)" if told["has_more"] else ""
        return Listing(told, told["requests"], columns, LESS, note)

    present(look, as_json=as_json, every_s=watch)


@requests_app.command()
def cancel(
    request: Annotated[str, typer.Argument(help="The request's id.", autocompletion=complete_requests)],
    *,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """End a request, whichever hub holds it; its client is told."""
    told = AdminHub.open(hub_url, admin_token_file).delete("requests", request)
    confirm(told, f"{request} is being cancelled", as_json=as_json)


@requests_app.command()
def dead(
    *,
    limit: Annotated[int, typer.Option(help="Most to show.", min=1, max=MOST_DEAD)] = 100,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Show jobs that failed on every attempt or were refused by a provider, the newest first."""
    told = AdminHub.open(hub_url, admin_token_file).get("dead", limit=limit)
    columns = {
        "ID": lambda letter: letter["id"],
        "WHEN": lambda letter: when(letter["at"]),
        "REQUEST": lambda letter: letter["request"],
        "MODEL": lambda letter: letter["model"],
        "ATTEMPTS": lambda letter: letter["attempt"],
        "CODE": lambda letter: letter["code"],
        "REASON": lambda letter: letter["reason"],
    }
    tell(told, told["dead"], columns, as_json=as_json)


@requests_app.command()
def retry(
    entry: Entry = None,
    *,
    every: All = False,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Run a dead job again, as a new request without a client; with --all every one that can be, the oldest first."""
    hub = AdminHub.open(hub_url, admin_token_file)
    if _one_of(entry, every=every) is not None:
        told = hub.post("dead", str(entry), "retry")
        confirm(told, f"{entry} runs again as the request {told['request']}", as_json=as_json)
        return
    letters = reversed(hub.get("dead", limit=MOST_DEAD)["dead"])
    wanted = [one["id"] for one in letters if one["is_retryable"] and one["retried_as"] is None]
    retried = []
    for one in wanted:
        try:
            retried.append(hub.post("dead", one, "retry"))
        except HubUnmoved as exc:
            raise HubUnmoved(f"{len(retried)} of {len(wanted)} run again; {one}: {exc}") from exc
    confirm({"retried": retried}, f"{len(retried)} run again", as_json=as_json)


@requests_app.command()
def drop(
    entry: Entry = None,
    *,
    every: All = False,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Forget a dead job; with --all every one."""
    hub = AdminHub.open(hub_url, admin_token_file)
    one = _one_of(entry, every=every)
    told = hub.delete("dead") if one is None else hub.delete("dead", one)
    confirm(told, f"{told['dropped']} dropped" if one is None else f"{one} is dropped", as_json=as_json)


def _one_of(entry: str | None, *, every: bool) -> str | None:
    """The dead job that is meant; None: all. StartRefused unless just one of the two was said."""
    if (entry is None) != every:
        raise StartRefused("expected a dead job's id (`ghub requests dead` shows them) or --all")
    return entry
