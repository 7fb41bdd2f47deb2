from __future__ import annotations

from attnseg.sweeps.names import job_name, safe, short_keys, shortened


def test_a_key_is_cut_to_its_last_unambiguous_part() -> None:
    keys = ["schedule.phases.joint.weights.attention.end", "optim.lr", "attention"]
    assert list(short_keys(keys).values()) == ["end", "lr", "attention"]


def test_keys_with_a_common_end_keep_what_tells_them_apart() -> None:
    keys = ["schedule.phases.a.weights.attention.end", "schedule.phases.b.weights.attention.end"]
    assert list(short_keys(keys).values()) == [
        "a.weights.attention.end",
        "b.weights.attention.end",
    ]
    assert short_keys(["lr", "optim.lr"]) == {"lr": "lr", "optim.lr": "optim.lr"}


def test_a_name_is_what_varies_in_whatever_order() -> None:
    values = {"schedule": "none", "attention": "drr", "seed": 1}
    assert job_name(values) == "attention=drr,schedule=none,seed=1"
    assert job_name(dict(reversed(values.items()))) == job_name(values)
    assert job_name(values, "mine").startswith("mine-attention=drr")
    assert job_name({}) == ""


def test_a_name_is_safe_as_a_folder() -> None:
    name = job_name({"a": [8, 16], "b": "x y/../z", "c": None, "d": True, "optim.lr": 1e-3})
    assert name == "a=8-16,b=x-y-..-z,c=null,d=true,lr=0.001"
    assert job_name({"optim.lr": 0.0053604302103819}) == "lr=0.00536"
    assert safe("$%&") == "x"


def test_a_long_name_is_cut_and_stays_itself() -> None:
    one, two = (shortened("x" * 300 + end) for end in "ab")
    assert one != two
    assert len(one) <= 150
    assert shortened("short") == "short"
    assert len(shortened("患者" * 50).encode()) <= 150
