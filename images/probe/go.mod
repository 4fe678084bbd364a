module lab/probe

go 1.24
