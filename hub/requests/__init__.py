"""From a submission to an open request and back to nothing: admission, turns, tries, clocks, records."""
