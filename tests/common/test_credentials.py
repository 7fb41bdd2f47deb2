from __future__ import annotations

import pytest

from attnseg.common.credentials import concealed, redacted
from attnseg.common.errors import ConfigError, DataError

S = "s3cr3t-mark"
TOLD = (
    f"postgresql://u:{S}@host/db",
    f"postgresql+psycopg2://u:{S}@host:5432/db?sslmode=require",
    f"postgresql://u:{S}@host,host2/db",
    f"postgresql://u:{S}/x@host/db",
    f"postgresql://u:a@{S}@host/db",
    f"postgresql://u:a/{S}@b@host/db",
    f"postgresql://u:a?{S}@host/db",
    f"postgresql://u:#{S}@host/db",
    f"postgresql://host/db?user=u&password={S}",
    f"mysql://:{S}@host/db",
    f"https://{S}@host/path",
    f"https://{S}:@host/path",
    f"https://{S}:x-oauth-basic@github.com/a.git",
    f"https://x-access-token:{S}@github.com/a.git",
    f"https://host/x?token={S}",
    f"https://host/x?a=1&api_key={S}&b=2",
    f"https://host/x?X-Amz-Signature={S}",
    f"https://host/x?sig={S}",
    f"http://host/x?access_token={S}#y",
    f"mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BPWD%3D{S}",
    f"sqlite:////a/b.db?password={S}",
    f"redis://:{S}@host:6379/0",
    f"s3://key:{S}@bucket/x",
    f"smb://dom;u:{S}@host/share",
    f"sweep.storage=postgresql://u:{S}@host/db seed=1",
    f"'++sweep.storage=\"postgresql://u:{S}@host/db\"'",
    f"cannot connect (postgresql://u:{S}@host/db), again",
    f'connect("host=h dbname=d user=u password={S}")',
    f"password='{S} {S}' host=h",
    f"WANDB_API_KEY={S}",
)
KEPT = (
    "https://host/path@v1.pth",
    "https://host:8080/path@v1",
    "sqlite:////data/a@b.db",
    "file:///data/a@b",
    "user@host:/path",
    "patient_key=/x/y.key",
    "postgresql://u:$PASSWORD@host/db",
    "postgresql://u:${oc.env:PASSWORD}@host/db",
    "tokenizer=x",
    "optim.lr=1e-3 run.dir=runs/a",
    "https://wandb.ai/a/b/runs/c",
)


@pytest.mark.parametrize("text", TOLD)
def test_no_password_is_left_in_a_text(text: str) -> None:
    assert S not in redacted(text)
    assert "***" in redacted(text)
    assert redacted(redacted(text)) == redacted(text)
    assert S not in str(concealed({"a": [text, {"b": text}]}))


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_secret_is_left(text: str) -> None:
    assert redacted(text) == text


def test_the_user_and_the_rest_of_a_url_stay() -> None:
    text = f"postgresql://u:{S}@host:5432/db?sslmode=require&password={S}"
    assert redacted(text) == "postgresql://u:***@host:5432/db?sslmode=require&password=***"


def test_a_secret_that_was_met_is_known_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "0123456789abcdef")
    redacted("postgresql://u:p%40ss%20word@host/db")
    assert concealed("login failed for 'p@ss word'") == "login failed for '***'"
    assert concealed(["key 0123456789abcdef"]) == ["key ***"]


def test_an_errors_message_holds_none() -> None:
    assert S not in str(ConfigError(f"postgresql://u:{S}@host cannot be opened"))
    error = DataError(f"https://{S}@host/x", [f"http://h/x?token={S}"])
    assert S not in f"{error}{error.headline}{error.problems}{error!r}"
