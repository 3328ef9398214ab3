"""Our small profile of RFC 9421 says what the standard says."""

from __future__ import annotations

import pytest

from tallystick_coalition import agreement, settings, signing
from tallystick_coalition.line import Numbers


def test_the_example_of_the_standard_verifies() -> None:
    """RFC 9421, appendix B.2.6: the test key, its base, its signature."""
    params = '("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"'
    covered = [
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"), ("@method", "POST"), ("@path", "/foo"), ("@authority", "example.com"),
        ("content-type", "application/json"), ("content-length", "18"),
    ]  # fmt: skip
    key = "JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="
    signature = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    assert agreement.verify((key,), b"", signing.base(covered, params), signature)
    assert not agreement.verify((key,), b"", signing.base(covered[1:], params), signature)


def test_what_is_signed_is_written_as_the_standard_has_it() -> None:
    private = agreement.new_key(b"k" * 32)
    stamp = signing.Stamp(agreement.public_key(private), 1_781_092_800_000_001, "A" * 22)
    headers = signing.sign_request(private, "/v1/x", b"{}", stamp)
    assert headers["content-digest"] == "sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:"
    params = headers["signature-input"].removeprefix("coalition=")
    assert params == (
        '("@method" "@path" "content-digest" "tallystick-sequence");created=1781092800;nonce="AAAAAAAAAAAAAAAAAAAAAA"'
        f';keyid="{stamp.key}";alg="ed25519";tag="tallystick-coalition/1"'
    )
    assert signing.read_request([agreement.fingerprint(stamp.key)], "POST", "/v1/x", headers, b"{}") == stamp


def test_numbers_grow_whatever_the_clock_does_and_forget_a_clock_that_was_far_ahead() -> None:
    numbers = Numbers()
    assert [numbers.following(now) for now in (1_000, 1_000, 5, 2_000)] == [1_000, 1_001, 1_002, 2_000]
    assert [numbers.following(now) for now in (10**15, 3_000, 3_000)] == [10**15, 3_000, 3_001]


@pytest.mark.parametrize(
    "url, fits",
    [
        ("https://grocer.example/v1/coalition/partners/abc", True),
        ("https://grocer.example:8443/x", True),
        ("http://127.0.0.1:8000/x", True),
        ("http://localhost:8000/x", True),
        ("http://[::1]:8000/x", True),
        ("http://grocer.example/x", False),
        ("http://127.0.0.1.example/x", False),
        ("https://user:word@grocer.example/x", False),
        ("https://grocer.example/x?y=1", False),
        ("https://grocer.example/x#y", False),
        ("https://grocer.example", False),
        ("https:///x", False),
        ("https://grocer.example:x/", False),
        ("https://[::1/x", False),
        ("ftp://grocer.example/x", False),
        ("https://grocer.example/a b", False),
        ("https://grocer.example/a\r\nx: y", False),
    ],
)
def test_tls_is_required_but_on_this_machine(url: str, fits: bool) -> None:
    assert (settings.unfit(url) == "") is fits
