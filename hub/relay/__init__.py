"""From the broker's replies to the requests that wait for them."""
