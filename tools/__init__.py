"""Programs for those who release this package: what a release holds, where it works, and the release itself."""
