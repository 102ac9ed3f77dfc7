"""A route's `capture` through apply, SQL, snapshot and export; the key pair that comes with the first one."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import Engine

from gateway.errors import Invalid
from gateway.policy import codec
from gateway.policy.capture import Capture
from gateway.policy.roles import Authority, Role
from gateway.policy.snapshot import Snapshot
from gateway.settings import Settings
from gateway.store import body_keys, compiler
from gateway.store.apply import apply, export
from gateway.store.config import Editing
from gateway.store.database import read_session, write_session
from gateway.store.sealing import Sealer, load_sealer, rotate_key_file

YAML = """
providers: [{name: up, dialect: openai, base_url: "http://127.0.0.1:1"}]
routes:
  - {name: off, targets: [{provider: up, model: m}]}
  - {name: usual, targets: [{provider: up, model: m}], capture: {}}
  - name: own
    targets: [{provider: up, model: m}]
    capture:
      {request: false, sample: 0.25, max_bytes: 4096, keep: 2w, redact: ['^a+$$', '[0-9]{6}'], visible_to_team: true}
"""


@pytest.fixture
def sealer(tmp_path: Path) -> Sealer:
    return load_sealer(Settings(data=tmp_path))


def bring(engine: Engine, sealer: Sealer, text: str) -> list[str]:
    with write_session(engine) as session:
        editing = Editing(session=session, authority=Authority(actor="cli:root", role=Role.OWNER), sealer=sealer)
        return [str(each) for each in apply(editing, text, file="x.yaml", environment={}).changes]


def exported(engine: Engine, sealer: Sealer) -> str:
    with read_session(engine) as session:
        return export(Editing(session=session, authority=Authority(actor="-", role=Role.OWNER), sealer=sealer))


def snapshot(engine: Engine, sealer: Sealer) -> Snapshot:
    with read_session(engine) as session:
        return codec.decode_snapshot(codec.encode_snapshot(compiler.compile_snapshot(session, sealer)))


def test_what_a_document_says_reaches_the_workers(engine: Engine, sealer: Sealer) -> None:
    bring(engine, sealer, YAML)
    found = snapshot(engine, sealer)
    assert {name: route.capture for name, route in found.routes.items()} == {
        "off": None,
        "usual": Capture(),
        "own": Capture(
            request=False, sample=0.25, max_bytes=4096, keep_days=14, redact=("^a+$", "[0-9]{6}"), visible_to_team=True
        ),
    }
    text = exported(engine, sealer)
    assert bring(engine, sealer, text) == []
    assert text.count("capture:") == 2
    without = YAML.replace(", capture: {}", "")
    assert bring(engine, sealer, without) == ["update route usual (capture)"]
    assert snapshot(engine, sealer).routes["usual"].capture is None


def test_workers_get_the_public_half_alone(engine: Engine, sealer: Sealer) -> None:
    bring(engine, sealer, YAML.replace("capture", "retries").replace("{}", "1").split("  - name: own")[0])
    assert snapshot(engine, sealer).body_key is None
    bring(engine, sealer, YAML)
    public = snapshot(engine, sealer).body_key
    with read_session(engine) as session:
        private = body_keys.private_key(session, sealer)
        document = codec.encode_snapshot(compiler.compile_snapshot(session, sealer))
    assert private is not None
    assert X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw() == public
    assert private.hex().encode() not in document
    bring(engine, sealer, YAML.replace("usual", "another"))
    assert snapshot(engine, sealer).body_key == public


def test_a_rotation_leaves_old_bodies_readable(engine: Engine, sealer: Sealer, tmp_path: Path) -> None:
    bring(engine, sealer, YAML)
    with read_session(engine) as session:
        before = body_keys.private_key(session, sealer)
    assert rotate_key_file(engine, Settings(data=tmp_path)) == 1
    with read_session(engine) as session:
        assert body_keys.private_key(session, load_sealer(Settings(data=tmp_path))) == before


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("sample: 0", "sample"),
        ("sample: 1.5", "sample"),
        ("max_bytes: 10", "max_bytes"),
        ("keep: 401d", "1d to 400d"),
        ("keep: 12h", "1d to 400d"),
        ("request: false, response: false", "records neither"),
        ("redact: ['(']", "no regular expression"),
        ("redact: ['(?=x)']", "neither look-around nor back-references"),
        ("redact: ['x*']", "matches the empty text"),
        ("redact: ['\\p{L}{900}']", "no regular expression"),
        ("colour: blue", "colour"),
    ],
)
def test_what_cannot_be_is_refused_with_its_remedy(engine: Engine, sealer: Sealer, wrong: str, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        bring(engine, sealer, YAML.replace("capture: {}", f"capture: {{{wrong}}}"))
    assert said in str(refused.value.fields["errors"])
