"""How property tests run: without a clock on single examples, which a busy machine would trip."""

from hypothesis import HealthCheck, settings

settings.register_profile("ghub", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ghub")
