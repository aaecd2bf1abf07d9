"""Files that other programs read: unit files, rules, dashboards; no code of the daemon's."""
