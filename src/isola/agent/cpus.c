/* Which of the machine's CPUs the kernel uses: CPUs that are added are not used by themselves. */
#include "agent.h"
#include "boot.h"
#include "operations.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CPUS "devices/system/cpu"
#define MAX_CPUS 1024

static int open_switch(unsigned int cpu, int flags) {
    char path[64];
    snprintf(path, sizeof(path), CPUS "/cpu%u/online", cpu);
    return openat(sys_fd, path, flags | O_CLOEXEC);
}

/* The first one cannot be switched off, and may have no switch. */
static bool is_used(unsigned int cpu) {
    char state = '1';
    int fd = open_switch(cpu, O_RDONLY);
    if (fd >= 0 && read(fd, &state, 1) != 1)
        state = '0';
    close_fd(&fd);
    return state == '1';
}

static int use(unsigned int cpu, bool on) {
    if (is_used(cpu) == on)
        return 0;
    int fd = open_switch(cpu, O_WRONLY);
    int error = fd < 0 || write(fd, on ? "1" : "0", 1) != 1 ? errno : 0;
    close_fd(&fd);
    return error;
}

static int find_cpus(bool *there) {
    int fd = openat(sys_fd, CPUS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *cpus = fd < 0 ? NULL : fdopendir(fd);
    if (!cpus)
        return errno;
    for (struct dirent *entry; (entry = readdir(cpus));) {
        unsigned int cpu;
        char rest;
        if (sscanf(entry->d_name, "cpu%u%c", &cpu, &rest) == 1 && cpu < MAX_CPUS)
            there[cpu] = true;
    }
    closedir(cpus);
    return 0;
}

/* The first so many; fewer while the kernel has not found all of them. */
int use_cpus(uint32_t wanted, uint32_t *used) {
    bool there[MAX_CPUS] = {false};
    /* Not those of a system with services of its own, nor of a host that tests it. */
    int error = !is_machine ? ENOSYS : wanted ? find_cpus(there) : EINVAL;
    *used = 0;
    for (unsigned int cpu = 0, place = 0; !error && cpu < MAX_CPUS; cpu++) {
        if (!there[cpu])
            continue;
        error = use(cpu, place++ < wanted);
        *used += is_used(cpu);
    }
    return error;
}
