"""How many files and connections the process may have open: what the system lets it have.

Most systems begin with 1,024, of which strangers who only connect could take all, before uvicorn
sees them where TLS comes first; then learning could not open its own files any more.
"""

import resource

_WANTED = 65_536


def raise_open_files(wanted: int = _WANTED) -> int:
    """Raise the limit as far as this user may; return what it is now."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    if now == resource.RLIM_INFINITY or now >= wanted:
        return now
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return wanted
