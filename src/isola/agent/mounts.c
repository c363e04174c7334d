/* The file systems of the guest: its root, what is mounted below it, files of the run, devices. */
#include "agent.h"
#include "mounts.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int make_directories(char *path) {
    for (char *at = path + 1; *path && *at; at++) {
        if (*at != '/')
            continue;
        *at = 0;
        int failed = mkdir(path, 0755) < 0 && errno != EEXIST;
        *at = '/';
        if (failed)
            return errno;
    }
    return mkdir(path, 0755) < 0 && errno != EEXIST ? errno : 0;
}

int make_mount_point(char *path, bool file) {
    struct stat status;
    if (stat(path, &status) == 0)
        return 0;
    if (!file)
        return make_directories(path);
    char *name = strrchr(path, '/');
    if (name && name != path) {
        *name = 0;
        int error = make_directories(path);
        *name = '/';
        if (error)
            return error;
    }
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

int mount_one(const char *above, const struct mount *mount_) {
    char target[4096];
    struct stat source;
    bool bind = mount_->flags & MS_BIND;
    if (snprintf(target, sizeof(target), "%s%s", above, mount_->target) >= (int)sizeof(target))
        return ENAMETOOLONG;
    bool file = bind && stat(mount_->source, &source) == 0 && !S_ISDIR(source.st_mode);
    int error = make_mount_point(target, file);
    if (error && error != EROFS)
        return error;
    if (mount(mount_->source, target, mount_->kind, mount_->flags, *mount_->options ? mount_->options : NULL) < 0)
        return errno;
    if (bind && (mount_->flags & MS_RDONLY) && mount(NULL, target, NULL, mount_->flags | MS_REMOUNT, NULL) < 0)
        return errno;
    return 0;
}

int set_sysctl(const char *name, const char *value) {
    char path[512] = "sys/";
    size_t size = strlen(name);
    if (!size || size > 500 || strstr(name, "..") || name[0] == '/')
        return EINVAL;
    memcpy(path + 4, name, size + 1);
    for (char *at = path + 4; !strchr(name, '/') && *at; at++)
        if (*at == '.')
            *at = '/';
    int fd = openat(proc_fd, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno;
    size = strlen(value);
    int error = write(fd, value, size) != (ssize_t)size ? errno : 0;
    close(fd);
    return error;
}

static int note(char *why, size_t room, const char *what, const char *which, int error) {
    if (error)
        snprintf(why, room, "%s %s: %s", what, which, strerror(error));
    return error;
}

int enter_root(const struct mount *root, char *why, size_t room) {
    if (!*root->kind)
        return 0;
    const char *target = *root->target ? root->target : "/newroot";
    struct mount at = *root;
    at.target = (char *)(uintptr_t)target;
    at.flags &= ~(uint32_t)MS_RDONLY; /* at last, when all mount points are there */
    int error = mount_one("", &at);
    if (error)
        return note(why, room, "root", root->source, error);
    /* Not pivot_root, which the initial file system of a kernel does not support. */
    if (chdir(target) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
        return note(why, room, "root", target, errno);
    return 0;
}

/* The files are made on a file system that is nowhere but where they are mounted. */
static int write_files(const struct plan *plan, int *fds, const char *scratch) {
    for (size_t i = 0; i < plan->file_count; i++) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/%zu", scratch, i);
        int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (fd < 0)
            return errno;
        bool done = write(fd, plan->files[i].data, plan->files[i].size) == (ssize_t)plan->files[i].size;
        if (!done || fchmod(fd, plan->files[i].mode & 07777) < 0) {
            close(fd);
            return done ? errno : ENOSPC;
        }
        close(fd);
        fds[i] = open(path, O_PATH | O_CLOEXEC);
        if (fds[i] < 0)
            return errno;
    }
    return 0;
}

int make_files(const struct plan *plan, int *fds, const char *scratch) {
    if (!plan->file_count)
        return 0;
    if (mkdir(scratch, 0700) < 0 && errno != EEXIST)
        return errno;
    if (mount("files", scratch, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700,size=16m") < 0)
        return errno;
    return write_files(plan, fds, scratch);
}

/* A link of an image may lead to what is only there in a running system, as that of systemd-resolved at resolv.conf: the
 * file is made there, as engines of containers do. */
static int make_file(const char *path) {
    char at[4097], link[4097];
    if (snprintf(at, sizeof(at), "%s", path) >= (int)sizeof(at))
        return ENAMETOOLONG;
    for (int links = 0; links < MAX_SYMLINKS; links++) {
        int error = make_mount_point(at, true);
        if (error != ELOOP)
            return error;
        ssize_t size = readlink(at, link, sizeof(link) - 1);
        if (size < 0)
            return errno == EINVAL ? ELOOP : errno;
        link[size] = 0;
        if ((error = follow_link(at, sizeof(at), link)))
            return error;
    }
    return ELOOP;
}

int put_files(const struct plan *plan, const int *fds, char *why, size_t room) {
    for (size_t i = 0; i < plan->file_count; i++) {
        char source[64], *target = plan->files[i].path;
        snprintf(source, sizeof(source), "self/fd/%d", fds[i]);
        int error = make_file(target);
        if (!error && fchdir(proc_fd) < 0)
            error = errno;
        if (!error && mount(source, target, NULL, MS_BIND, NULL) < 0)
            error = errno;
        close(fds[i]);
        if (error)
            return note(why, room, "file", target, error);
    }
    return chdir("/") < 0 ? errno : 0;
}

static int make_device(const struct device *device) {
    mode_t type = device->kind == 'b' ? S_IFBLK : S_IFCHR;
    char *name = strrchr(device->path, '/');
    if (name && name != device->path) {
        *name = 0;
        make_directories(device->path);
        *name = '/';
    }
    unlink(device->path);
    if (mknod(device->path, type | 0600, makedev(device->major, device->minor)) < 0)
        return errno;
    if (lchown(device->path, device->uid, device->gid) < 0 || chmod(device->path, device->mode & 07777) < 0)
        return errno;
    return 0;
}

int fill_root(const struct plan *plan, char *why, size_t room) {
    for (size_t i = 0; i < plan->mount_count; i++) {
        int error = mount_one("", &plan->mounts[i]);
        if (error)
            return note(why, room, "mount", plan->mounts[i].target, error);
    }
    static const char *links[][2] = {{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"},
                                     {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"}};
    for (size_t i = 0; plan->mount_count && i < 4; i++)
        if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
            return note(why, room, "link", links[i][1], errno);
    for (size_t i = 0; i < plan->device_count; i++) {
        int error = make_device(&plan->devices[i]);
        if (error)
            return note(why, room, "device", plan->devices[i].path, error);
    }
    for (size_t i = 0; i < plan->sysctl_count; i++) {
        int error = set_sysctl(plan->sysctls[i].name, plan->sysctls[i].value);
        if (error)
            return note(why, room, "sysctl", plan->sysctls[i].name, error);
    }
    return 0;
}

int enter_guest(void) {
    if (!system_image)
        return 0;
    int namespace = openat(proc_fd, "1/ns/mnt", O_RDONLY | O_CLOEXEC);
    int root = openat(proc_fd, "1/root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int error = 0;
    if (namespace < 0 || root < 0)
        error = errno;
    else if (setns(namespace, CLONE_NEWNS) < 0 || fchdir(root) < 0 || chroot(".") < 0 || chdir("/") < 0)
        error = errno;
    close_fd(&namespace);
    close_fd(&root);
    return error;
}
