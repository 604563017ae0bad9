"""Sets that are drawn, not downloaded; frozen in GENERATED.md."""
