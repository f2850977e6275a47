"""Keys of the bus (NATS nkeys): made, stored and used for signing with libcrypto, without any package.

A seed is 32 secret bytes of an ed25519 key in base32 with a prefix and a checksum; a public key has the same form.
Every process and host has its own key, and the server knows only the public halves (ARCHITECTURE §9).
"""

from __future__ import annotations

import binascii
import ctypes
import os

from hythe.errors import FailedPrecondition, InvalidArgument, PermissionDenied

_SEED_PREFIX = 18 << 3
_USER_PREFIX = 20 << 3
_ED25519 = 1087  # NID_ED25519 of libcrypto
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_LIBRARIES = ("libcrypto.so.3", "libcrypto.so.1.1")


class Key:
    """A user's key pair; `public` is what the server's configuration names.

    Spec: NATS nkeys, https://github.com/nats-io/nkeys; RFC 8032 (ed25519).
    """

    __slots__ = ("_secret", "public")

    def __init__(self, secret: bytes) -> None:
        """Derive the public key from 32 secret bytes.

        Raises:
            InvalidArgument: `secret` has another length.
            FailedPrecondition: this machine has no libcrypto with ed25519.
        """
        if len(secret) != 32:
            raise InvalidArgument(f"make bus key: expected 32 secret bytes, got {len(secret)}")
        self._secret = secret
        self.public = _encode(bytes([_USER_PREFIX]) + _public(secret))

    def __repr__(self) -> str:
        return f"Key({self.public})"

    @property
    def seed(self) -> str:
        """The secret half as text, ``SU…``: whoever has it is this user."""
        head = bytes([_SEED_PREFIX | (_USER_PREFIX >> 5), (_USER_PREFIX & 31) << 3])
        return _encode(head + self._secret)

    def sign(self, data: bytes) -> bytes:
        """Return the 64 bytes of the ed25519 signature of `data`."""
        return _sign(self._secret, data)

    def signature_text(self, nonce: str) -> str:
        """Return the signature of the server's nonce as CONNECT wants it: base64url without padding."""
        encoded = binascii.b2a_base64(self.sign(nonce.encode()), newline=False).decode()
        return encoded.rstrip("=").replace("+", "-").replace("/", "_")


def generate() -> Key:
    """Return a fresh key from the kernel's random source."""
    return Key(os.urandom(32))


def from_seed(text: str) -> Key:
    """Return the key that a seed spells.

    Raises:
        InvalidArgument: `text` is no nkey user seed, or its checksum is wrong. The text is never repeated in the error.
    """
    raw = _decode(text.strip())
    if len(raw) != 34 or raw[0] & 0xF8 != _SEED_PREFIX or ((raw[0] & 7) << 5 | raw[1] >> 3) != _USER_PREFIX:
        raise InvalidArgument("read bus key: not an nkey seed of a user")
    return Key(raw[2:])


def load(path: str) -> Key:
    """Return the key whose seed is the content of file `path`.

    Raises:
        FailedPrecondition: the file is missing.
        PermissionDenied: this user may not read it.
        InvalidArgument: it holds no seed.
    """
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(256)
    except PermissionError as error:
        raise PermissionDenied(
            f"read bus key {path}: not permitted", next_step="run it as root: the keys of a stack are root's"
        ) from error
    except OSError as error:
        raise FailedPrecondition(
            f"read bus key {path}: {(error.strerror or str(error)).lower()}",
            next_step="run as root on the host of the stack; `hythe up` makes the keys at its first start",
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"read bus key {path}: not an nkey seed of a user") from error
    try:
        return from_seed(text)
    except InvalidArgument as error:
        raise InvalidArgument(f"read bus key {path}: not an nkey seed of a user") from error


def _encode(payload: bytes) -> str:
    """Return base32 without padding of `payload` and its CRC-16 (XMODEM), low byte first."""
    data = payload + binascii.crc_hqx(payload, 0).to_bytes(2, "little")
    bits = len(data) * 8
    pad = -bits % 5
    number = int.from_bytes(data, "big") << pad
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(bits + pad - 5, -1, -5))


def _decode(text: str) -> bytes:
    number = 0
    for character in text:
        value = _ALPHABET.find(character)
        if value < 0:
            raise InvalidArgument("read bus key: not base32")
        number = number << 5 | value
    bits = len(text) * 5
    size = bits // 8
    data = (number >> (bits - size * 8)).to_bytes(size, "big")
    if size < 3 or binascii.crc_hqx(data[:-2], 0).to_bytes(2, "little") != data[-2:]:
        raise InvalidArgument("read bus key: wrong checksum")
    return data[:-2]


class _Library:
    """The functions of libcrypto that are used, loaded at the first use."""

    loaded: ctypes.CDLL | None = None


def _libcrypto() -> ctypes.CDLL:
    if _Library.loaded is not None:
        return _Library.loaded
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
            pointer, number, size, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_char_p
            library.EVP_PKEY_new_raw_private_key.restype = pointer
            library.EVP_PKEY_new_raw_private_key.argtypes = [number, pointer, text, size]
            library.EVP_PKEY_get_raw_public_key.argtypes = [pointer, text, ctypes.POINTER(size)]
            library.EVP_PKEY_free.argtypes = [pointer]
            library.EVP_MD_CTX_new.restype = pointer
            library.EVP_MD_CTX_free.argtypes = [pointer]
            library.EVP_DigestSignInit.argtypes = [pointer, pointer, pointer, pointer, pointer]
            library.EVP_DigestSign.argtypes = [pointer, text, ctypes.POINTER(size), text, size]
        except (OSError, AttributeError):
            continue
        _Library.loaded = library
        return library
    raise FailedPrecondition(
        "sign for the bus: no libcrypto with ed25519 on this machine", next_step="install the Debian package libssl3"
    )


def _private_key(library: ctypes.CDLL, secret: bytes) -> int:
    handle: int | None = library.EVP_PKEY_new_raw_private_key(_ED25519, None, secret, len(secret))
    if not handle:
        raise FailedPrecondition("sign for the bus: libcrypto refuses ed25519 keys")
    return handle


def _public(secret: bytes) -> bytes:
    library = _libcrypto()
    key = _private_key(library, secret)
    try:
        out = ctypes.create_string_buffer(32)
        size = ctypes.c_size_t(32)
        if library.EVP_PKEY_get_raw_public_key(key, out, ctypes.byref(size)) != 1:
            raise FailedPrecondition("make bus key: libcrypto gives no public key")
        return out.raw
    finally:
        library.EVP_PKEY_free(key)


def _sign(secret: bytes, data: bytes) -> bytes:
    library = _libcrypto()
    key = _private_key(library, secret)
    context = library.EVP_MD_CTX_new()
    try:
        out = ctypes.create_string_buffer(64)
        size = ctypes.c_size_t(64)
        done = (
            library.EVP_DigestSignInit(context, None, None, None, key) == 1
            and library.EVP_DigestSign(context, out, ctypes.byref(size), data, len(data)) == 1
        )
        if not done:
            raise FailedPrecondition("sign for the bus: libcrypto refuses to sign")
        return out.raw
    finally:
        library.EVP_MD_CTX_free(context)
        library.EVP_PKEY_free(key)
