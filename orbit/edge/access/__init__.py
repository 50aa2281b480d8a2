"""Who may do what: tokens, the keys that they are judged by, and the origins of browsers' pages."""

from orbit.edge.access.access import Access
from orbit.edge.access.origins import Origins
from orbit.edge.access.rights import OPEN, Rights, Verb

__all__ = ["OPEN", "Access", "Origins", "Rights", "Verb"]
