"""An engine's answer on its way into a reply, and the clocks that watch it."""
