/* New content of a file, beside it until it is complete: an interrupted write leaves the file as it was. */
#include "entries.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/xattr.h>
#include <unistd.h>

static void choose_name(struct handle *draft) {
    uint64_t number = 0;
    if (getrandom(&number, sizeof(number), 0) != sizeof(number))
        number = now_ms();
    snprintf(draft->temporary_name, sizeof(draft->temporary_name), ".isola-%016llx", (unsigned long long)number);
}

static int create(struct handle *draft) {
    choose_name(draft);
    draft->fd = openat(draft->directory, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    if (draft->fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOSYS && errno != EINVAL))
        return draft->fd >= 0 ? 0 : errno;
    draft->fd = openat(draft->directory, draft->temporary_name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    draft->temporary = draft->fd >= 0;
    return draft->fd >= 0 ? 0 : errno;
}

/* Where a path that may end with a symbolic link leads: the directory and the name of the file itself. */
static int follow(const char *path, struct handle *draft) {
    char at[4097], link[4097];
    snprintf(at, sizeof(at), "%s", path);
    for (int links = 0; links < MAX_SYMLINKS; links++) {
        free(draft->name);
        close_fd(&draft->directory);
        draft->directory = open_parent(at, &draft->name);
        if (draft->directory < 0)
            return errno;
        ssize_t size = readlinkat(draft->directory, draft->name, link, sizeof(link) - 1);
        if (size < 0)
            return 0;
        link[size] = 0;
        int error = follow_link(at, sizeof(at), link);
        if (error)
            return error;
    }
    return ELOOP;
}

static int find_target(const char *path, struct handle *draft) {
    bool linked;
    struct stat status;
    int link = open_path(path, O_NOFOLLOW);
    linked = link >= 0 && fstat(link, &status) == 0 && S_ISLNK(status.st_mode);
    close_fd(&link);
    draft->target = open_path(path, 0);
    if (draft->target >= 0)
        return require_regular(draft->target);
    if (errno != ENOENT)
        return errno;
    return linked ? EEXIST : 0; /* what a dangling link points to is not created */
}

int open_draft(const char *path, bool append, struct handle *draft) {
    struct stat there, above;
    size_t size = strlen(path);
    if (size && path[size - 1] == '/')
        return EISDIR;
    int error = follow(path, draft);
    if (!error)
        error = find_target(path, draft);
    if (!error)
        error = require_store(draft->directory);
    if (!error && draft->target >= 0) {
        if (fstat(draft->target, &there) < 0 || fstat(draft->directory, &above) < 0)
            return errno;
        /* Hard links, a mount point and a file that grows keep their inode. */
        draft->in_place = append || there.st_nlink > 1 || there.st_dev != above.st_dev;
    }
    draft->append = append;
    if (error)
        return error;
    int reopened = reopen(draft->directory, O_RDONLY | O_DIRECTORY);
    if (reopened < 0)
        return errno;
    close(draft->directory);
    draft->directory = reopened;
    return create(draft);
}

static int dress(int fd, const struct stat *before, int64_t uid, int64_t gid, int64_t mode) {
    uid_t owner = uid >= 0 ? (uid_t)uid : before ? before->st_uid : 0;
    gid_t group = gid >= 0 ? (gid_t)gid : before ? before->st_gid : 0;
    mode_t bits = mode >= 0 ? (mode_t)mode : before ? before->st_mode : 0644;
    if (fchown(fd, owner, group) < 0 || fchmod(fd, bits & 07777) < 0) /* fchown clears setuid */
        return errno;
    return 0;
}

static int copy_all(int from, int to, off_t *written) {
    static uint8_t block[MAX_READ];
    ssize_t got;
    if (lseek(from, 0, SEEK_SET) < 0)
        return errno;
    while ((got = read(from, block, sizeof(block))) > 0)
        for (ssize_t done = 0, count; done < got; done += count) {
            count = write(to, block + done, (size_t)(got - done));
            if (count < 0)
                return errno;
            *written += count;
        }
    return got < 0 ? errno : 0;
}

static int copy_into(struct handle *draft, int64_t uid, int64_t gid, int64_t mode) {
    struct stat before, after;
    off_t written = 0;
    int target = reopen(draft->target, O_WRONLY | (draft->append ? O_APPEND : 0));
    if (target < 0)
        return errno;
    int error = fstat(target, &before) < 0 ? errno : copy_all(draft->fd, target, &written);
    if (!error && !draft->append && ftruncate(target, written) < 0)
        error = errno;
    if (!error)
        error = dress(target, &before, uid, gid, mode);
    /* A full disk: what was appended is removed, unless another program appended too. */
    if (error && draft->append && fstat(target, &after) == 0 && after.st_size == before.st_size + written)
        error = ftruncate(target, before.st_size) < 0 ? errno : error;
    close(target);
    return error;
}

static void copy_attributes(int from, int to) {
    char names[4096], value[4096];
    int readable = reopen(from, O_RDONLY);
    ssize_t size = readable < 0 ? -1 : flistxattr(readable, names, sizeof(names));
    for (ssize_t at = 0; at < size; at += (ssize_t)strlen(names + at) + 1) {
        const char *name = names + at;
        if (strncmp(name, "user.", 5) != 0 && strncmp(name, "system.posix_acl_", 17) != 0 && strcmp(name, "security.selinux") != 0)
            continue;
        ssize_t length = fgetxattr(readable, name, value, sizeof(value));
        if (length >= 0)
            fsetxattr(to, name, value, (size_t)length, 0);
    }
    close_fd(&readable);
}

static int appear(struct handle *draft, bool replace) {
    if (!draft->temporary) {
        if (!replace) {
            if (linkat(draft->fd, "", draft->directory, draft->name, AT_EMPTY_PATH) == 0)
                return 0;
            if (errno != EEXIST) /* made meanwhile: the later one wins, as with any other program */
                return errno;
        }
        if (linkat(draft->fd, "", draft->directory, draft->temporary_name, AT_EMPTY_PATH) < 0)
            return errno;
        draft->temporary = true;
    }
    if (renameat(draft->directory, draft->temporary_name, draft->directory, draft->name) < 0)
        return errno;
    draft->temporary = false;
    return 0;
}

int commit_draft(struct handle *draft, int64_t uid, int64_t gid, int64_t mode) {
    struct stat before;
    if (draft->in_place)
        return copy_into(draft, uid, gid, mode);
    bool replace = draft->target >= 0;
    if (replace && fstat(draft->target, &before) < 0)
        return errno;
    if (replace)
        copy_attributes(draft->target, draft->fd);
    int error = dress(draft->fd, replace ? &before : NULL, uid, gid, mode);
    return error ? error : appear(draft, replace);
}
