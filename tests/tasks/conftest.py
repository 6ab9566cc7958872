"""Each test that asks for `model` runs for every family."""

import pytest
from tiny import build, rows

from tasks.families import FAMILIES


@pytest.fixture(params=sorted(FAMILIES))
def model(request):
    return build(request.param)


@pytest.fixture
def split():
    return rows()
