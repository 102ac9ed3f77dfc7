"""The one configuration service: what the REST API, `apply` and the CLI read and change the configuration through.

```python
with write_session(engine) as session:
    editing = Editing(session=session, authority=authority, sealer=sealer)
    Providers(editing).update("openai", ProviderPatch(base_url="https://…"), expected_version=3)
```

Every collection has `list(after_id=, limit=)`, `get(reference)`, `create(document)`, `update(reference, patch,
expected_version)` and `delete(reference, expected_version)`; a reference is an id or a name. An authority that is
confined to a team finds nothing of others. Each change is audited and moves the generation, in the caller's
transaction.
"""

from gateway.store.config.editing import Change, Collection, Editing
from gateway.store.config.interception import InterceptionRules
from gateway.store.config.limits import Limits
from gateway.store.config.providers import Prices, Providers
from gateway.store.config.routes import Routes
from gateway.store.config.teams import Apps, Keys, Teams

__all__ = [
    "Apps",
    "Change",
    "Collection",
    "Editing",
    "InterceptionRules",
    "Keys",
    "Limits",
    "Prices",
    "Providers",
    "Routes",
    "Teams",
]
