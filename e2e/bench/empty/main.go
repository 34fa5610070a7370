// Empty is the Go program that does nothing: the floor of every start.
package main

func main() {}
