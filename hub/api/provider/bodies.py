"""Request bodies of providers; their health report stands in `common.report`, since they make it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictStr

from common.direct import DirectCall
from common.settings import NAME_PATTERN


class HmacQuestion(BaseModel):
    """`POST /api/provider/validate_hmac`: a caller's HMAC, and what it wants of which provider."""

    model_config = ConfigDict(extra="ignore")

    hmac: StrictStr
    """`X-Inferoute-HMAC` as it came."""
    node: Annotated[StrictStr, Field(pattern=f"^{NAME_PATTERN}$")]
    endpoint: Annotated[StrictStr, Field(min_length=1, max_length=1024)]
    """The path that was called."""
    body_sha256: Annotated[StrictStr, Field(pattern="^[0-9a-f]{64}$")]

    @property
    def call(self) -> DirectCall:
        """What the caller wants."""
        return DirectCall(self.node, self.endpoint, self.body_sha256)
