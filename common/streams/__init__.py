"""The broker's verbs: every stream command of the project stands in this package, with its reply shapes."""
