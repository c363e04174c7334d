/* What the guest uses, its processes, and its identity after a restored snapshot. */
#include "agent.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#define MAX_PROCESSES 2048
#define MAX_LINE 160

static uint64_t field(const char *text, const char *name) {
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

static void put_cpu(struct buffer *b) {
    char text[4096];
    unsigned long long user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, soft = 0;
    uint64_t tick = 1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK);
    if (read_file("stat", text, sizeof(text)) > 0)
        sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait, &irq, &soft);
    put_u64(b, (user + nice + system + irq + soft) * tick);
    put_u64(b, (user + nice) * tick);
    put_u64(b, (system + irq + soft) * tick);
}

uint64_t oom_kills(void) {
    char text[16384] = "";
    read_file("vmstat", text, sizeof(text));
    return field(text, "\noom_kill ") / 1024;
}

/* An init of PID 1 is never chosen; an agent beside it is one process among others. */
void protect(bool own) {
    int fd = system_image ? openat(proc_fd, "self/oom_score_adj", O_WRONLY | O_CLOEXEC) : -1;
    const char *value = own ? "-1000" : "0";
    if (fd >= 0 && write(fd, value, strlen(value)) < 0) {
        /* without the right to: it stays as it is */
    }
    close_fd(&fd);
}

void report_stats(struct buffer *b) {
    char text[8192] = "";
    struct timespec up = {0};
    struct sysinfo info = {0};
    put_cpu(b);
    read_file("meminfo", text, sizeof(text));
    put_u64(b, field(text, "MemTotal:"));
    put_u64(b, field(text, "MemFree:"));
    put_u64(b, field(text, "MemAvailable:"));
    put_u64(b, field(text, "\nCached:"));
    sysinfo(&info);
    put_u32(b, info.procs);
    for (int i = 0; i < 3; i++)
        put_u32(b, (uint32_t)(info.loads[i] * 1000 >> SI_LOAD_SHIFT));
    clock_gettime(CLOCK_BOOTTIME, &up);
    put_u64(b, (uint64_t)up.tv_sec * 1000000000 + (uint64_t)up.tv_nsec);
    put_u64(b, oom_kills());
}

static void put_command_line(struct buffer *b, const char *pid, const char *name) {
    char path[64], line[MAX_LINE];
    snprintf(path, sizeof(path), "%.20s/cmdline", pid);
    ssize_t size = read_file(path, line, sizeof(line));
    while (size > 0 && !line[size - 1])
        size--;
    for (ssize_t i = 0; i < size; i++)
        if (!line[i])
            line[i] = ' ';
    if (size > 0)
        put_bytes(b, line, (size_t)size);
    else
        put_text(b, name);
}

static bool put_process(struct buffer *b, const char *pid) {
    char path[64], text[2048], name[80];
    unsigned long long user, system, start;
    long resident;
    unsigned int parent;
    char state;
    struct stat status;
    snprintf(path, sizeof(path), "%.20s", pid);
    if (fstatat(proc_fd, path, &status, 0) < 0)
        return false;
    snprintf(path, sizeof(path), "%.20s/stat", pid);
    char *open_, *close_;
    if (read_file(path, text, sizeof(text)) <= 0 || !(open_ = strchr(text, '(')) || !(close_ = strrchr(text, ')')))
        return false;
    if (sscanf(close_ + 1, " %c %u %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu %*u %ld",
               &state, &parent, &user, &system, &start, &resident) != 6)
        return false;
    *close_ = 0;
    snprintf(name, sizeof(name), "[%.70s]", open_ + 1);
    put_u32(b, (uint32_t)strtoul(pid, NULL, 10));
    put_u32(b, parent);
    put_u32(b, status.st_uid);
    put_u8(b, (uint8_t)state);
    put_u64(b, start);
    put_u64(b, user + system);
    put_u64(b, (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE));
    put_command_line(b, pid, name);
    return true;
}

void report_processes(struct buffer *b) {
    uint32_t count = 0;
    size_t place = b->size;
    int fd = openat(proc_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    put_u32(b, 0);
    while (listing && count < MAX_PROCESSES && (entry = readdir(listing)))
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && put_process(b, entry->d_name))
            count++;
    if (listing)
        closedir(listing);
    else
        close_fd(&fd);
    set_u32(b, place, count);
}

/* --- identity --------------------------------------------------------------------------------------------------- */

/* Two guests of one snapshot must not draw the same random numbers. */
static int mix(const uint8_t *bytes, size_t size) {
    struct {
        struct rand_pool_info info;
        uint8_t bytes[64];
    } pool = {.info = {.entropy_count = (int)size * 8, .buf_size = (int)size}};
    int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    if (fd < 0 || size > sizeof(pool.bytes)) {
        close_fd(&fd);
        return fd < 0 ? ENOENT : EINVAL;
    }
    memcpy(pool.info.buf, bytes, size);
    int error = ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0 ? errno : 0;
    close(fd);
    return error;
}

static int write_machine_id(const char *id) {
    int root = system_image ? openat(proc_fd, "1/root", O_PATH | O_DIRECTORY | O_CLOEXEC) : open("/", O_PATH | O_CLOEXEC);
    int fd = root < 0 ? -1 : openat(root, "etc/machine-id", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0444);
    int error = fd < 0 || dprintf(fd, "%s\n", id) < 0 ? errno : 0;
    close_fd(&fd);
    close_fd(&root);
    return error;
}

int set_identity(struct reader *r) {
    size_t size = get_u32(r);
    const uint8_t *bytes = get_bytes(r, size);
    char *hostname = get_text(r), *id = get_text(r);
    int error = all_read(r) ? 0 : EINVAL;
    if (!error && size)
        error = mix(bytes, size);
    if (!error && *hostname && sethostname(hostname, strlen(hostname)) < 0)
        error = errno;
    if (!error && *id)
        error = write_machine_id(id);
    free(hostname);
    free(id);
    return error;
}
