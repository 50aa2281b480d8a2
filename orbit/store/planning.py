"""Plans: what a schedule starts, and when. Pure: the time comes in as an argument."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from orbit.errors import BadRequest
from orbit.protocol.values import is_text

MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """A State that is started again and again.

    Attributes:
        state / fields: Its name, and its input as JSON values.
        cron: When, as five fields: minute, hour, day of the month, month, day of the week.
        tz: The time zone that these fields are in, by its name in the IANA database.
        queue / priority: As of a start.

    Raises:
        BadRequest: It means nothing; the message says what.
    """

    name: str
    state: str
    fields: Mapping[str, Any]
    cron: str
    tz: str = "UTC"
    queue: str | None = None
    priority: int = 0
    _zone: ZoneInfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not is_text(self.name) or not 1 <= len(self.name) <= MAX_NAME or not self.name.isprintable():
            raise BadRequest(f"a schedule's name is a text of 1 to {MAX_NAME} printable characters")
        object.__setattr__(self, "_zone", _zone_of(self.tz))
        if not isinstance(self.cron, str) or len(self.cron.split()) != 5:
            raise BadRequest(f"cron {self.cron!r:.60}: five fields: minute, hour, day, month, day of the week")
        self.next_ms(0)

    def next_ms(self, after_ms: int) -> int | None:
        """The first time after `after_ms`, in ms since 1970; None where there is none.

        An hour that the clock leaves out counts as the one after it; one that it has twice counts once.
        """
        after = datetime.fromtimestamp(after_ms / 1000, UTC).astimezone(self._zone)
        try:
            found: datetime = next(CronSim(self.cron, after))
        except StopIteration:
            return None
        except CronSimError as error:
            raise BadRequest(f"cron {self.cron!r:.60}: {error}") from None
        return round(found.timestamp() * 1000)

    @property
    def record(self) -> str:
        """The plan as text: the same for an equal plan."""
        told = {name: value for name, value in asdict(self).items() if name != "_zone"}
        return json.dumps(told, sort_keys=True, separators=(",", ":"))

    @classmethod
    def of(cls, record: str) -> Plan:
        """The plan that `record` tells."""
        return cls(**json.loads(record))


def _zone_of(tz: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(tz))
    except (OSError, ValueError):  # ZoneInfoNotFoundError is a KeyError of its own
        pass
    except KeyError:
        pass
    raise BadRequest(f"time zone {tz!r:.60}: there is none of this name; as in Europe/Berlin, or UTC")
