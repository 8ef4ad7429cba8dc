module kps.internal/kps

go 1.25
