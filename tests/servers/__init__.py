"""Real servers for tests, fault tests and benchmarks: started on loopback, gone with the process that started them."""
