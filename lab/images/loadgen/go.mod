module lumen.example/loadgen

go 1.22
