"""Puts together who may ask a hub for what, and which nodes belong to its grid."""

from dataclasses import dataclass

from common.broker.broker import Broker
from common.broker.clock import BrokerClock
from common.broker.users import BrokerUsers
from common.records.credentials import Credentials
from common.records.memberships import Memberships
from common.records.registry import Registry
from common.streams.jobs import JobLanes
from hub.access.broker_access import BrokerAccess
from hub.access.credential_table import CredentialTable
from hub.access.gatekeeper import Gatekeeper
from hub.access.members import MemberBooks, Members
from hub.access.provider_tokens import parse_tokens
from hub.settings import HubSettings


@dataclass(frozen=True, slots=True)
class Access:
    """The parts that others work with."""

    credentials: CredentialTable
    gatekeeper: Gatekeeper
    members: Members


def make_access(broker: Broker, clock: BrokerClock, settings: HubSettings) -> Access:
    """All parts; the table of credentials is empty until it runs."""
    stored = Credentials(broker)
    table = CredentialTable(stored, parse_tokens(settings.provider_tokens))
    books = MemberBooks(stored, table, Memberships(broker), Registry(broker), JobLanes(broker))
    users = BrokerAccess(settings, BrokerUsers(broker))
    return Access(table, Gatekeeper(table, clock, settings), Members(books, users, clock, settings, broker.keys.prefix))
