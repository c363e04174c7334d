/* A worker: serves requests on its standard input and output, one after another, until the input ends. */
#include "agent.h"
#include "operations.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

#define MAX_TABLE (1u << 20)

static int work_mount(struct reader *r) {
    struct mount mount_ = {get_text(r), get_text(r), NULL, NULL, 0};
    mount_.kind = get_text(r);
    mount_.flags = get_u32(r);
    mount_.options = get_text(r);
    int error = all_read(r) ? mount_one("", &mount_) : EINVAL;
    free(mount_.source);
    free(mount_.target);
    free(mount_.kind);
    free(mount_.options);
    return error;
}

static int work_unmount(struct reader *r) {
    char *target = get_text(r);
    int error = !all_read(r) ? EINVAL : umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? errno : 0;
    free(target);
    return error;
}

static int work_sysctl(struct reader *r) {
    char *name = get_text(r), *value = get_text(r);
    int error = all_read(r) ? set_sysctl(name, value) : EINVAL;
    free(name);
    free(value);
    return error;
}

/* Spaces and the like in mount points are octal. */
static void unescape(char *text) {
    char *to = text;
    for (char *at = text; *at; to++) {
        unsigned int code;
        if (*at == '\\' && sscanf(at + 1, "%3o", &code) == 1) {
            *to = (char)code;
            at += 4;
        } else {
            *to = *at++;
        }
    }
    *to = 0;
}

/* Whether it was changed: file systems that cannot be frozen, and those that are already, are left as they are. */
static bool freeze_one(const char *target, bool freeze) {
    int fd = open(target, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
    bool done = fd >= 0 && ioctl(fd, freeze ? FIFREEZE : FITHAW, 0) == 0;
    close_fd(&fd);
    return done;
}

/* Those of block devices; frozen from the last mounted to the first, so that none waits for one below it. */
int freeze_all(bool freeze, uint32_t *count) {
    char *table = allocate(MAX_TABLE), *targets[256];
    size_t found = 0;
    *count = 0;
    if (read_file("self/mounts", table, MAX_TABLE) < 0) {
        free(table);
        return errno;
    }
    char *save, *line = strtok_r(table, "\n", &save);
    for (; line && found < 256; line = strtok_r(NULL, "\n", &save)) {
        char *target = strchr(line, ' '), *kind = target ? strchr(target + 1, ' ') : NULL;
        if (strncmp(line, "/dev/", 5) != 0 || !kind)
            continue;
        *kind = 0;
        unescape(target + 1);
        targets[found++] = target + 1;
    }
    sync();
    for (size_t i = 0; i < found; i++)
        if (freeze_one(targets[freeze ? found - 1 - i : i], freeze))
            (*count)++;
    free(table);
    return 0;
}

int work_system(uint16_t operation, struct reader *r, struct buffer *answer) {
    uint32_t count;
    int error;
    switch (operation) {
    case WORK_MOUNT:
        return work_mount(r);
    case WORK_UNMOUNT:
        return work_unmount(r);
    case WORK_SYNC:
        sync();
        return 0;
    case WORK_FREEZE:
    case WORK_THAW:
        error = freeze_all(operation == WORK_FREEZE, &count);
        put_u32(answer, count);
        return error;
    case WORK_SYSCTL:
        return work_sysctl(r);
    case WORK_CPUS:
        count = get_u32(r);
        error = all_read(r) ? use_cpus(count, &count) : EINVAL;
        put_u32(answer, count);
        return error;
    default:
        return ENOSYS;
    }
}

static bool read_all(uint8_t *data, size_t size) {
    while (size) {
        ssize_t got = read(0, data, size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        data += got;
        size -= (size_t)got;
    }
    return true;
}

static void write_all(const uint8_t *data, size_t size) {
    while (size) {
        ssize_t written = write(1, data, size);
        if (written < 0 && errno != EINTR)
            _exit(0);
        if (written > 0) {
            data += written;
            size -= (size_t)written;
        }
    }
}

static int work(uint16_t operation, struct reader *r, struct buffer *answer) {
    if (operation >= WORK_STAT && operation <= WORK_COMMIT)
        return work_files(operation, r, answer);
    if (operation > WORK_COMMIT && operation <= WORK_SPACE)
        return work_changes(operation, r, answer);
    return work_system(operation, r, answer);
}

void serve_worker(void) {
    static uint8_t request[MAX_WORK];
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_NAME, "isola-worker");
    for (;;) {
        uint8_t prefix[4];
        if (!read_all(prefix, 4))
            _exit(0);
        struct reader head = {prefix, 4, false};
        uint32_t size = get_u32(&head);
        if (size < 6 || size > sizeof(request) || !read_all(request, size))
            _exit(1);
        struct reader r = {request, size, false};
        struct buffer answer = {0}, frame = {0};
        uint32_t id = get_u32(&r);
        int error = work(get_u16(&r), &r, &answer);
        if (error || answer.size > MAX_WORK_ANSWER - 8)
            answer.size = 0;
        put_u32(&frame, 8 + (uint32_t)answer.size);
        put_u32(&frame, id);
        put_u32(&frame, (uint32_t)error);
        put_raw(&frame, answer.data, answer.size);
        write_all(frame.data, frame.size);
        clear(&frame);
        clear(&answer);
    }
}
