"""From a run to a service and a phone: export, check, convert."""
