package guardian

// standOut does nothing: a process keeps its program's name here.
func standOut() {}

// environ is empty: environments cannot be looked at here.
func environ(int) ([]string, error) { return nil, nil }
