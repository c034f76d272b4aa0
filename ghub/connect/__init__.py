"""`ghub connect`: a front of all hubs on a client's own machine, behind which hubs may come and go."""
