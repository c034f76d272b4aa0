"""Jobs in their lanes, replies, orders, dead letters, hints: every stream command stands here or in `common/lua`."""
