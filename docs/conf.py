"""The documentation site: Sphinx, MyST for the pages, the Furo theme. ``make site`` builds it without a network."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]
# Importing the operators makes Airflow write its configuration: not into the home of the person who builds.
HOME_OF_AIRFLOW = tempfile.TemporaryDirectory(prefix="airflow-of-the-site-")  # removed at the end of the process
os.environ["AIRFLOW_HOME"] = HOME_OF_AIRFLOW.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

from airflow_mapbox import __version__  # noqa: E402 - Airflow's home comes first

project = "airflow-provider-mapbox"
author = "the authors of airflow-provider-mapbox"
project_copyright = f"{author}. Apache License 2.0. Mapbox has neither made nor endorsed this package."
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "error_messages",
    "from_code",
    "repository_links",
]
exclude_patterns = ["_ext"]
# A block without a language is a drawing, a table of addresses or a shell command.
highlight_language = "none"
# Quotes stay as a reader copies them. Only "--" becomes a dash, which autodoc writes after a parameter.
smartquotes_action = "D"

# Anchors as on the code host, so that one link works in both places.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

# Types stand beside each parameter: in the signature of an operator they would fill a screen.
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# `clock=time.time`, not what that is; from_code.py fills in strings and numbers.
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False

# Every reference must resolve, except those to other packages. They have no pages here: their inventories are on other
# hosts, and the build needs no network.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(airflow|collections|datetime|os|pathlib|psycopg|random)\..*"),
    # As annotations write them, of other packages …
    (r"py:class", r"Asset|Path|PathLike|SplitResult|datetime|timedelta"),
    # … and this package's own names for types, which are no classes. The text beside them says what they take.
    (r"py:class", r"ExportFormat|ExportSource|GeoJSONKeywords|LayerSource|SourceLike|Tier"),
    # What only this package's own modules pass.
    (r"py:class", r"AreaZooms|Expected|Ledger|Published|Source|StagingOptions|_Chunks"),
]

copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"airflow-provider-mapbox {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

# Mapbox's API pages and Airflow's answer a crawler slowly. `make linkcheck` is for a machine with a network.
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_anchors_ignore_for_url = [r"https://github\.com/.*"]
# Addresses of the reader's own machine, and examples.
linkcheck_ignore = [r"http://(localhost|127\.0\.0\.1)(:\d+)?.*", r"https?://[\w.]*example(\.com)?\b.*"]
