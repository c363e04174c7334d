/* As /init of the initial file system: what the agent itself needs. And the end of the machine. */
#include "agent.h"
#include "boot.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int sys_fd = -1, dev_fd = -1;

static void load_module(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
        fprintf(stderr, "isola-agent: module %s: %s\n", path, strerror(errno));
    close_fd(&fd);
}

/* In the order of dependence, which is known when the initial file system is built. */
static void load_modules(void) {
    char line[512], path[600];
    FILE *order = fopen("/lib/modules/order", "re");
    while (order && fgets(line, sizeof(line), order)) {
        line[strcspn(line, "\n")] = 0;
        if (!*line)
            continue;
        snprintf(path, sizeof(path), "%s%s", line[0] == '/' ? "" : "/lib/modules/", line);
        load_module(path);
    }
    if (order)
        fclose(order);
}

static void mount_own(const char *kind, const char *target, unsigned long flags, const char *options) {
    mkdir(target, 0755);
    if (mount(kind, target, kind, flags, options) < 0 && errno != EBUSY)
        fprintf(stderr, "isola-agent: %s: %s\n", target, strerror(errno));
}

void boot(void) {
    mount_own("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_own("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_own("devtmpfs", "/dev", MS_NOSUID, "mode=0755");
    mount_own("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "ptmxmode=0666,mode=0620,gid=5");
    load_modules();
    mkdir("/newroot", 0755);
}

void open_places(void) {
    proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    sys_fd = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
    dev_fd = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

void power(bool restart) {
    flush_outgoing();
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    sync();
    if (!is_machine)
        _exit(0);
    mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
    sync();
    reboot(restart ? RB_AUTOBOOT : RB_POWER_OFF);
    for (;;) /* PID 1 must not end */
        pause();
}
