// Copyright (c) 2026, the dsr.layer2 authors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Stands in for a program on a lab host: runs the real one, which lies beside it with ".real" at the end of its
// name, and notes in /run/watched what that took: name, wall seconds, processor seconds, peak memory in KiB.
// What a process reports of its children can't be used: a child begins with its parent's memory.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval t)
{
	return t.tv_sec + t.tv_usec / 1e6;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	char real[4096], line[256];
	struct rusage used;
	int status;

	(void)argc;
	ssize_t size = readlink("/proc/self/exe", real, sizeof real - 8);
	if (size < 0)
		return 126;
	strcpy(real + size, ".real");
	double begun = now();
	pid_t child = fork();
	if (child < 0)
		return 126;
	if (!child) {
		execv(real, argv);
		_exit(127);
	}
	while (wait4(child, &status, 0, &used) < 0)
		if (errno != EINTR)
			return 126;
	int log = open("/run/watched", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	int length = snprintf(line, sizeof line, "%s %.6f %.6f %ld\n", strrchr(real, '/') + 1, now() - begun,
			      seconds(used.ru_utime) + seconds(used.ru_stime), used.ru_maxrss);
	if (log >= 0 && write(log, line, length) != length)
		return 126;
	if (WIFSIGNALED(status)) {
		// It ends as the real one did.
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		signal(WTERMSIG(status), SIG_DFL);
		raise(WTERMSIG(status));
	}
	return WEXITSTATUS(status);
}
