/* Operations of a worker that change names and attributes. */
#include "entries.h"
#include "operations.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SET_SIZE 1
#define SET_MODE 2
#define SET_UID 4
#define SET_GID 8
#define SET_ACCESSED 16
#define SET_MODIFIED 32

static int set_size(int fd, uint64_t size) {
    int error = size > INT64_MAX ? EINVAL : require_regular(fd);
    int file = error ? -1 : reopen(fd, O_WRONLY);
    if (!error && (file < 0 || ftruncate(file, (off_t)size) < 0))
        error = errno;
    close_fd(&file);
    return error;
}

/* In this order: changing the owner clears set-user-id, the size the time. */
int change_file(int fd, struct reader *r) {
    char path[48];
    uint8_t which = get_u8(r);
    uint64_t size = get_u64(r);
    uint32_t mode = get_u32(r), uid = get_u32(r), gid = get_u32(r);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
    int64_t accessed = (int64_t)get_u64(r), modified = (int64_t)get_u64(r);
    if (!all_read(r))
        return EINVAL;
    int error = require_store(fd);
    if (!error && which & SET_SIZE)
        error = set_size(fd, size);
    snprintf(path, sizeof(path), "self/fd/%d", fd);
    if (!error && which & (SET_UID | SET_GID) &&
        fchownat(fd, "", which & SET_UID ? uid : (uid_t)-1, which & SET_GID ? gid : (gid_t)-1, AT_EMPTY_PATH) < 0)
        error = errno;
    if (!error && which & SET_MODE && fchmodat(proc_fd, path, mode & 07777, 0) < 0)
        error = errno;
    if (which & SET_ACCESSED)
        times[0] = (struct timespec){.tv_sec = accessed};
    if (which & SET_MODIFIED)
        times[1] = (struct timespec){.tv_sec = modified};
    if (!error && which & (SET_ACCESSED | SET_MODIFIED) && utimensat(proc_fd, path, times, 0) < 0)
        error = errno;
    return error;
}

static int change_path(struct reader *r) {
    char *path = get_text(r);
    if (r->bad || r->left < 1) {
        free(path);
        return EINVAL;
    }
    struct reader changes = {r->at, r->left - 1, false};
    int fd = open_path(path, r->at[r->left - 1] ? 0 : O_NOFOLLOW);
    int error = fd < 0 ? errno : change_file(fd, &changes);
    close_fd(&fd);
    free(path);
    return error;
}

/* A directory whose names may be changed: not of a pseudo file system. */
static int open_changed(const char *path, char **name) {
    int fd = open_parent(path, name);
    int error = fd < 0 ? 0 : require_store(fd);
    if (!error)
        return fd;
    close(fd);
    free(*name);
    *name = NULL;
    errno = error;
    return -1;
}

static int is_directory(const char *path) {
    struct stat status;
    int fd = open_path(path, 0);
    if (fd < 0)
        return errno == ENOENT ? ENOENT : errno;
    int error = fstat(fd, &status) < 0 ? errno : S_ISDIR(status.st_mode) ? 0 : ENOTDIR;
    close(fd);
    return error;
}

static int make_directory(struct reader *r) {
    char *path = get_text(r), *name = NULL;
    uint32_t uid = get_u32(r), gid = get_u32(r), mode = get_u32(r);
    bool new = get_u8(r);
    int error = all_read(r) ? 0 : EINVAL, directory = -1;
    int there = error || new ? ENOENT : is_directory(path);
    if (!error && there == 0) {
        free(path);
        return 0;
    }
    if (!error && there != ENOENT)
        error = there;
    if (!error && (directory = open_changed(path, &name)) < 0)
        error = errno;
    if (!error && mkdirat(directory, name, 0700) < 0)
        error = errno;
    int made = error ? -1 : openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (!error && (made < 0 || fchown(made, uid, gid) < 0 || fchmod(made, mode & 07777) < 0))
        error = errno;
    close_fd(&made);
    close_fd(&directory);
    free(name);
    free(path);
    return error;
}

static bool points_to(int directory, const char *name, const char *target) {
    char link[4097];
    ssize_t size = readlinkat(directory, name, link, sizeof(link) - 1);
    link[size > 0 ? size : 0] = 0;
    return size >= 0 && strcmp(link, target) == 0;
}

static int make_symlink(struct reader *r) {
    char *path = get_text(r), *target = get_text(r), *name = NULL;
    uint32_t uid = get_u32(r), gid = get_u32(r);
    bool new = get_u8(r);
    int directory = all_read(r) ? open_changed(path, &name) : (errno = EINVAL, -1);
    int error = directory < 0 ? errno : 0;
    if (!error && symlinkat(target, directory, name) < 0) {
        error = errno;
        if (error == EEXIST && !new && points_to(directory, name, target))
            error = 0;
    } else if (!error && fchownat(directory, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0) {
        error = errno;
    }
    close_fd(&directory);
    free(name);
    free(target);
    free(path);
    return error;
}

static int remove_name(struct reader *r) {
    char *path = get_text(r), *name = NULL;
    bool files = get_u8(r), directories = get_u8(r);
    int directory = all_read(r) ? open_changed(path, &name) : (errno = EINVAL, -1);
    int error = directory < 0 ? errno : EISDIR;
    if (directory >= 0 && files)
        error = unlinkat(directory, name, 0) < 0 ? errno : 0;
    if (error == EISDIR && directory >= 0 && directories)
        error = unlinkat(directory, name, AT_REMOVEDIR) < 0 ? errno : 0;
    close_fd(&directory);
    free(name);
    free(path);
    return error;
}

static int read_target(struct reader *r, struct buffer *answer) {
    char link[4097];
    char *path = get_text(r);
    int fd = all_read(r) ? open_path(path, O_NOFOLLOW) : (errno = EINVAL, -1);
    ssize_t size = fd < 0 ? -1 : readlinkat(fd, "", link, sizeof(link));
    int error = size < 0 ? (fd >= 0 && errno == ENOENT ? EINVAL : errno) : 0; /* ENOENT: not a link */
    if (!error)
        put_raw(answer, link, (size_t)size);
    close_fd(&fd);
    free(path);
    return error;
}

static int move(uint16_t operation, struct reader *r) {
    char *old = get_text(r), *new = get_text(r), *from = NULL, *to = NULL;
    bool replace = operation == WORK_RENAME && get_u8(r);
    int a = all_read(r) ? open_changed(old, &from) : (errno = EINVAL, -1), error = a < 0 ? errno : 0;
    int b = error ? -1 : open_changed(new, &to);
    if (!error && b < 0)
        error = errno;
    if (!error && operation == WORK_LINK)
        error = linkat(a, from, b, to, 0) < 0 ? errno : 0;
    else if (!error)
        error = renameat2(a, from, b, to, replace ? 0 : RENAME_NOREPLACE) < 0 ? errno : 0;
    close_fd(&a);
    close_fd(&b);
    free(from);
    free(to);
    free(old);
    free(new);
    return error;
}

static int space_of(struct reader *r, struct buffer *answer) {
    char *path = get_text(r);
    int fd = all_read(r) ? open_path(path, 0) : (errno = EINVAL, -1);
    int error = fd < 0 ? errno : put_space(answer, fd);
    close_fd(&fd);
    free(path);
    return error;
}

int work_changes(uint16_t operation, struct reader *r, struct buffer *answer) {
    switch (operation) {
    case WORK_MAKE_DIRECTORY:
        return make_directory(r);
    case WORK_MAKE_SYMLINK:
        return make_symlink(r);
    case WORK_REMOVE:
        return remove_name(r);
    case WORK_TARGET:
        return read_target(r, answer);
    case WORK_CHANGE:
        return change_path(r);
    case WORK_SPACE:
        return space_of(r, answer);
    default:
        return move(operation, r);
    }
}
