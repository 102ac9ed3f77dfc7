"""`sluicegate sealing rotate`."""

from gateway.cli import output
from gateway.cli.owner import become_owner
from gateway.settings import Settings


def rotate(settings: Settings) -> None:
    become_owner(settings.data)
    from gateway.store import migrate
    from gateway.store.database import make_engine
    from gateway.store.sealing import key_file, rotate_key_file

    engine = make_engine(settings.database_url)
    try:
        migrate.check(engine)
        count = rotate_key_file(engine, settings)
    finally:
        engine.dispose()
    output.say(f"secrets sealed with a new key: {count}")
    output.note(f"back up {key_file(settings)}: earlier backups made without --with-key need the earlier key")
