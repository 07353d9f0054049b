"""What a password must be. Length decides; the list stops what everybody tries first."""

from app.core.errors import FieldError, Invalid

MIN_LENGTH = 10
MAX_LENGTH = 1024
MIN_DIFFERENT = 4
COMMON = frozenset(
    """
    1234567890 12345678910 0123456789 0987654321 9876543210 1q2w3e4r5t 1qaz2wsx3edc q1w2e3r4t5 qwertyuiop
    qwerty1234 qwerty12345 qwerty123456 qwertyqwerty asdfghjkl1 asdfasdfasdf zxcvbnm123 abcdefghij
    abcd123456 abc1234567 abcdefg123 password12 password123 password1234 password12345 passwordpassword
    passw0rd123 p@ssw0rd123 p@ssword123 mypassword letmein123 letmein1234 welcome123 welcome1234 iloveyou12
    iloveyou123 princess123 sunshine123 football123 baseball123 superman123 batman1234 dragon1234 monkey1234
    michael123 charlie123 administrator admin12345 admin123456 adminadmin administrator1 rootroot12
    changeme123 changemenow testtest12 test123456 default123 secret1234 trustno1234 computer123 internet123
    whatever123 bottega123 bottegabottega stablediffusion civitai123 generate123
    """.split()
)


def check_new_password(password: str, username: str = "") -> None:
    """Errors: Invalid at `#/password` with one sentence that says what to do."""
    words = _fault(password, username)
    if words:
        raise Invalid(words, [FieldError("#/password", words)])


def _fault(password: str, username: str) -> str | None:
    low = password.lower()
    if len(password) < MIN_LENGTH:
        return (
            f"A password needs at least {MIN_LENGTH} characters. A few words in a row are easy to remember."
        )
    if len(password) > MAX_LENGTH:
        return f"A password may have at most {MAX_LENGTH} characters."
    if low in COMMON or len(set(low)) < MIN_DIFFERENT:
        return "This password is one of the first that others would try. Choose another one."
    if username and low in (username.lower(), username.lower() * 2):
        return "The password must not be your name."
    return None
