//go:build !linux

package postgres

func removeSharedMemory(int) {}
