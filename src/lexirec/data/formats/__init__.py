"""Published dumps. Each format is one function that gives raw tables, registered under its name with :func:`register`.

A new format is one file here, and its name below: tables in, our column names out; types, checks and order are the business of
:mod:`lexirec.data.checks`.
"""

from lexirec.data.formats import own  # ours are named first in messages

# isort: split
from lexirec.data.formats import amazon, movielens, recbole, steam, yelp
from lexirec.data.formats.base import FORMATS, Format, Tables, detect_format, register

__all__ = ["FORMATS", "Format", "Tables", "amazon", "detect_format", "movielens", "own", "recbole", "register", "steam", "yelp"]
